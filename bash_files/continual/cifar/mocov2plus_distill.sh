# MoCo V2+, with CaSSLe distillation, on CIFAR-100: five tasks of 20 classes, 500 epochs each.
# Settings of a third party, as CaSSLe has none. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name mocov2plus-distill-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --method mocov2plus \
    --distiller contrastive \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.4 \
    --temperature 0.2 \
    --final_tau_momentum 0.999 \
    --saturation 0.4 \
    --gaussian_prob 0.0
