# SimSiam on a folder of videos, one after the other: five epochs.
# Scaled-down twin of kinetics/sequential_epochs.sh: a minute on two cores. $DATA_DIR holds the videos, at any depth.
python main_continual.py \
    --name sequential-epochs-videos \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream order --seq_sampling random --stream_epochs 5 \
    --method simsiam --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
