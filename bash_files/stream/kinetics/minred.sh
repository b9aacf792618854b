# SimSiam on Kinetics-400, video after video, in a single pass: five updates, a memory without redundancy.
# Published settings of Continuous SSL, section 5, row "MinRed 64K, K=5", with ResNet-18.
# $DATA_DIR holds the videos of the training set, at any depth.
# The four parts of the memory are those of the four GPUs of the paper.
python main_continual.py \
    --name minred-kinetics \
    --dataset video --data_dir $DATA_DIR \
    --storage_size 256 --num_workers 16 \
    --stream order --seq_sampling random --num_updates 5 \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --strategy minred --mem_size 65536 --memory_warm_up 65536 \
    --feature_on_arrival false --virtual_ranks 4 \
    --gpus 0 \
    --batch_size 256 --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4
