# SimSiam on a folder of videos, all frames shuffled: five epochs.
# Scaled-down twin of kinetics/decorrelated.sh: two minutes on two cores. $DATA_DIR holds the videos, at any depth.
python main_continual.py \
    --name decorrelated-videos \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream iid --stream_epochs 5 \
    --method simsiam --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
