# SimSiam with ARP (CLA-R) on CIFAR-100, online: 20 experiences of five classes, three updates for every ten images.
# Defaults of the continual-SSL library: 128 replayed images beside every ten, a memory of 2,000, a rate of 0.01 in
# every step. Unlike there it learns from all 50,000 images, not from nine tenths. $DATA_DIR takes the data.
python main_continual.py \
    --name online-arp-cifar100 \
    --dataset cifar100 --num_tasks 20 \
    --data_dir $DATA_DIR --download \
    --stream class --num_updates 3 \
    --method simsiam --strategy arp --replay_batch_size 128 \
    --zero_init_residual \
    --gpus 0 \
    --batch_size 10 --scheduler none --lr 0.256 \
    --output_dim 2048 --proj_hidden_dim 512 \
    --min_scale 0.2 --gaussian_prob 0.0
