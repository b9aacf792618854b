# SimSiam on ImageNet-100 in four splits of 25 classes: every fourth image, four updates, a memory of the last 2,048.
# Section 6 of Continuous SSL, row "FIFO 64K, 4 updates on 1/4 data", on a smaller data set, with forgetting.
# Unlike there, the memory is 2,048 of 31,672 images (65,536 of 3,189,346), and the splits are not WordNet's.
# $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
# $PRETRAINED_PATH is the encoder to start from: the paper's is SimSiam's, trained on Flickr.
python main_continual.py \
    --name splits-fifo-imagenet100 \
    --dataset imagenet100 --num_tasks 4 \
    --data_dir $DATA_DIR/imagenet-100 --pretrained_model $PRETRAINED_PATH \
    --stream class --subsample 4 --num_updates 4 \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --strategy minred --memory fifo --mem_size 2048 --memory_warm_up 2048 \
    --gpus 0 \
    --batch_size 256 --scheduler none --lr 0.01 \
    --min_scale 0.2 --saturation 0.4
