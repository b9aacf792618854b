# SimSiam on a folder of videos in a single pass: five updates for every 32 frames, a memory without redundancy.
# Scaled-down twin of kinetics/minred.sh: a minute on two cores. $DATA_DIR holds the videos, at any depth.
python main_continual.py \
    --name minred-videos \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream order --seq_sampling random --num_updates 5 \
    --method simsiam --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --strategy minred --mem_size 128 --memory_warm_up 128 --feature_on_arrival false \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
