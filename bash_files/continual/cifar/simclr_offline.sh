# SimCLR, on all data at once, the upper bound, on CIFAR-100: one task, 500 epochs.
# Otherwise CaSSLe's published settings. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name simclr-offline-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --num_tasks 1 \
    --method simclr \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.4 --weight_decay 1e-5 \
    --classifier_lr 0.1 \
    --output_dim 256 --temperature 0.2 \
    --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2 \
    --gaussian_prob 0.0
