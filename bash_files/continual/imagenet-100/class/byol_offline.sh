# BYOL, on all data at once, the upper bound, on ImageNet-100: one task, 400 epochs.
# Otherwise CaSSLe's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name byol-offline-imagenet100-class \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --num_tasks 1 \
    --method byol \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 400 \
    --check_val_every_n_epoch 9999 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.6 --weight_decay 1e-5 \
    --classifier_lr 0.1 \
    --proj_hidden_dim 4096 --pred_hidden_dim 8192 \
    --gaussian_prob 1.0 0.1 --solarization_prob 0.0 0.2
