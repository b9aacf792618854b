# SimSiam with LUMP on CIFAR-100: 20 tasks of five classes, 200 epochs each, a memory of 256 images.
# LUMP's published settings, but for SimSiam's own projector (three layers). $DATA_DIR takes the data.
python main_continual.py \
    --name simsiam-lump-cifar100 \
    --dataset cifar100 --num_tasks 20 \
    --data_dir $DATA_DIR --download \
    --method simsiam --strategy lump \
    --mem_size 256 --memory_insert every_epoch \
    --gpus 0 --precision 16 \
    --max_epochs 200 --batch_size 256 \
    --scheduler none --lr 0.03 --weight_decay 5e-4 \
    --output_dim 2048 \
    --min_scale 0.2 --saturation 0.4 --gaussian_prob 0.0
