# SimCLR, fine-tuning, on ImageNet-100: five random parts, 400 epochs each.
# CaSSLe's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name simclr-imagenet100-data \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --split_strategy data \
    --method simclr \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 400 \
    --check_val_every_n_epoch 9999 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.4 \
    --temperature 0.2 \
    --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2
