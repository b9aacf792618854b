# SimSiam on all of ImageNet in four splits: all images in a single pass, one update for each batch.
# Published settings of Continuous SSL, section 6, row "Conventional, all data, 1 update", with ResNet-18. The encoders
# of 25, 50, 75 and 100 % are kept; a list has no validation images, so forgetting is for main_linear.py to tell.
# $DATA_DIR holds the images and 0123.txt, their list, split after split (the other orders: 0312.txt, 3120.txt).
# $PRETRAINED_PATH is the encoder to start from: the paper's is SimSiam's, trained on Flickr.
python main_continual.py \
    --name splits-single-pass-imagenet21k \
    --dataset list --data_dir $DATA_DIR --stream_file $DATA_DIR/0123.txt \
    --storage_size 256 --num_workers 16 --pretrained_model $PRETRAINED_PATH \
    --stream order \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --gpus 0 \
    --batch_size 256 --scheduler none --lr 0.01 \
    --min_scale 0.2 --saturation 0.4
