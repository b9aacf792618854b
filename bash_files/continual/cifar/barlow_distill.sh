# Barlow Twins, with CaSSLe distillation, on CIFAR-100: five tasks of 20 classes, 500 epochs each.
# CaSSLe's published settings. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name barlow-distill-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --method barlow_twins \
    --distiller decorrelative \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --classifier_lr 0.1 \
    --scale_loss 0.1 \
    --gaussian_prob 0.0 --solarization_prob 0.0 0.2
