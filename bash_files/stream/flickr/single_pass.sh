# SimSiam on the 20 million images of Flickr in a single pass, without a memory.
# Published settings of Continuous SSL, section 4, row "Conventional, single pass", with ResNet-18.
# $DATA_DIR holds the images and their list, flickr20M.npy: 20,000,000 names below $DATA_DIR, e.g. of dtype S120.
python main_continual.py \
    --name single-pass-flickr \
    --dataset list --data_dir $DATA_DIR --stream_file $DATA_DIR/flickr20M.npy \
    --storage_size 256 --num_workers 16 \
    --stream iid \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --gpus 0 \
    --batch_size 256 --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4
