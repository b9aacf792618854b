# BYOL, on all data at once, the upper bound, on DomainNet: one task, 200 epochs.
# Otherwise CaSSLe's published settings. $DATA_DIR/domainnet holds the images and DOMAIN_{train,test}.txt.
python main_continual.py \
    --name byol-offline-domainnet \
    --dataset domainnet \
    --data_dir $DATA_DIR/domainnet \
    --split_strategy data --num_tasks 1 \
    --method byol \
    --gpus 0,1,2,3 --sync_batchnorm --precision 16 \
    --max_epochs 200 --batch_size 64 \
    --check_val_every_n_epoch 9999 --disable_knn_eval \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --lr 0.6 --weight_decay 1e-5 \
    --classifier_lr 0.1 --momentum_classifier \
    --proj_hidden_dim 4096 --pred_hidden_dim 8192 \
    --gaussian_prob 1.0 0.1 --solarization_prob 0.0 0.2
