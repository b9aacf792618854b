# VICReg, on all data at once, the upper bound, on CIFAR-100: one task, 500 epochs.
# Otherwise CaSSLe's published settings. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name vicreg-offline-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --num_tasks 1 \
    --method vicreg \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --min_scale 0.2 \
    --gaussian_prob 0.0 --solarization_prob 0.1
