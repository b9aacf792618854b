# SimSiam on Kinetics-400, video after video, in a single pass: five updates, a memory of the last 65,536 frames.
# Published settings of Continuous SSL, section 5, row "FIFO 64K, K=5", with ResNet-18.
# $DATA_DIR holds the videos of the training set, at any depth.
python main_continual.py \
    --name fifo-kinetics \
    --dataset video --data_dir $DATA_DIR \
    --storage_size 256 --num_workers 16 \
    --stream order --seq_sampling random --num_updates 5 \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --strategy minred --memory fifo --mem_size 65536 --memory_warm_up 65536 \
    --gpus 0 \
    --batch_size 256 --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4
