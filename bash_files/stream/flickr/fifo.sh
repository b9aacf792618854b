# SimSiam on the 20 million images of Flickr in a single pass: ten updates, a memory of the last 65,536.
# Published settings of Continuous SSL, section 4, row "FIFO 64K, K=10", with ResNet-18.
# $DATA_DIR holds the images and their list, flickr20M.npy: 20,000,000 names below $DATA_DIR, e.g. of dtype S120.
python main_continual.py \
    --name fifo-flickr \
    --dataset list --data_dir $DATA_DIR --stream_file $DATA_DIR/flickr20M.npy \
    --storage_size 256 --num_workers 16 \
    --stream iid --num_updates 10 \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --strategy minred --memory fifo --mem_size 65536 --memory_warm_up 65536 \
    --gpus 0 \
    --batch_size 256 --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4
