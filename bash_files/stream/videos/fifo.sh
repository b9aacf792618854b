# SimSiam on a folder of videos in a single pass: five updates for every 32 frames, a memory of the last frames.
# Scaled-down twin of kinetics/fifo.sh: a minute on two cores. $DATA_DIR holds the videos, at any depth.
python main_continual.py \
    --name fifo-videos \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream order --seq_sampling random --num_updates 5 \
    --method simsiam --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --strategy minred --memory fifo --mem_size 128 --memory_warm_up 128 \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
