# SimSiam on ImageNet-100 in four splits of 25 classes: all images in a single pass, one update for each batch.
# Section 6 of Continuous SSL, row "Conventional, all data, 1 update", on a smaller data set, with forgetting.
# Unlike there, the splits are not WordNet's. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
# $PRETRAINED_PATH is the encoder to start from: the paper's is SimSiam's, trained on Flickr.
python main_continual.py \
    --name splits-single-pass-imagenet100 \
    --dataset imagenet100 --num_tasks 4 \
    --data_dir $DATA_DIR/imagenet-100 --pretrained_model $PRETRAINED_PATH \
    --stream class \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --gpus 0 \
    --batch_size 256 --scheduler none --lr 0.01 \
    --min_scale 0.2 --saturation 0.4
