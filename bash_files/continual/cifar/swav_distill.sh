# SwAV, with CaSSLe distillation, on CIFAR-100: five tasks of 20 classes, 500 epochs each.
# CaSSLe's published settings. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name swav-distill-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --method swav \
    --distiller knowledge \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 \
    --lr 0.6 --min_lr 6e-4 --weight_decay 1e-6 \
    --classifier_lr 0.1 \
    --epoch_queue_starts 50 --freeze_prototypes_epochs 2 \
    --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2 \
    --gaussian_prob 0.0
