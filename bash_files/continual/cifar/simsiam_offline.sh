# SimSiam, on all data at once, the upper bound, on CIFAR-100: one task, 500 epochs.
# Otherwise settings of the SimSiam paper, appendix D. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name simsiam-offline-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --num_tasks 1 \
    --method simsiam \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --scheduler cosine --lr 0.03 --weight_decay 5e-4 \
    --output_dim 2048 \
    --min_scale 0.2 --saturation 0.4 --gaussian_prob 0.0
