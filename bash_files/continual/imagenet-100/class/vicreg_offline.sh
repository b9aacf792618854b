# VICReg, on all data at once, the upper bound, on ImageNet-100: one task, 400 epochs.
# Otherwise CaSSLe's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name vicreg-offline-imagenet100-class \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --num_tasks 1 \
    --method vicreg \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 400 \
    --check_val_every_n_epoch 9999 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.4 \
    --min_scale 0.2 --solarization_prob 0.1
