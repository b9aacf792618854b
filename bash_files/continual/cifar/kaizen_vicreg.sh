# Kaizen with VICReg on CIFAR-100: five tasks of 20 classes, 500 epochs each, 1 % of the labelled images kept.
# Kaizen's published settings. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name kaizen-vicreg-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --method vicreg --distiller predictive_mse \
    --strategy kaizen --classifier_layers 1000 --replay_batch_size 32 \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --lars --grad_clip_lars --eta_lars 0.02 --exclude_bias_n_norm \
    --head_lr 0.05 \
    --classifier_lr 0.1 --online_eval_data seen_tasks \
    --min_scale 0.2 \
    --gaussian_prob 0.0 --solarization_prob 0.1
