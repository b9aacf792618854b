# SwAV, on all data at once, the upper bound, on DomainNet: one task, 200 epochs.
# Otherwise CaSSLe's published settings. $DATA_DIR/domainnet holds the images and DOMAIN_{train,test}.txt.
python main_continual.py \
    --name swav-offline-domainnet \
    --dataset domainnet \
    --data_dir $DATA_DIR/domainnet \
    --split_strategy data --num_tasks 1 \
    --method swav \
    --gpus 0,1,2,3 --sync_batchnorm --precision 16 \
    --max_epochs 200 --batch_size 64 \
    --check_val_every_n_epoch 9999 --disable_knn_eval \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.8 --min_lr 6e-4 --weight_decay 1e-6 \
    --classifier_lr 0.1 \
    --epoch_queue_starts 50 --freeze_prototypes_epochs 3 \
    --brightness 0.8 --contrast 0.8 --saturation 0.8 --hue 0.2
