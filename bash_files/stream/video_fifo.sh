# SimSiam on a folder of videos in a single pass: four updates for every 32 frames, a memory of the last frames.
# $DATA_DIR holds the videos, at any depth. A scaled-down twin of the video experiment of Continuous SSL.
python main_continual.py \
    --name video-fifo \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream order --seq_sampling random --num_updates 4 \
    --method simsiam --strategy minred --memory fifo --mem_size 192 \
    --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
