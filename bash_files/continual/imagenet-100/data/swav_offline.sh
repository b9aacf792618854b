# SwAV, on all data at once, the upper bound, on ImageNet-100: one task, 400 epochs.
# Otherwise CaSSLe's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name swav-offline-imagenet100-data \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --split_strategy data --num_tasks 1 \
    --method swav \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 400 \
    --check_val_every_n_epoch 9999 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.8 --min_lr 6e-4 --weight_decay 1e-6 \
    --classifier_lr 0.1 \
    --epoch_queue_starts 100 --freeze_prototypes_epochs 5 \
    --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2
