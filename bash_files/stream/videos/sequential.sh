# SimSiam on a folder of videos, one after the other, in a single pass.
# Scaled-down twin of kinetics/sequential.sh: a minute on two cores. $DATA_DIR holds the videos, at any depth.
python main_continual.py \
    --name sequential-videos \
    --dataset video --data_dir $DATA_DIR --size 64 \
    --stream order --seq_sampling random \
    --method simsiam --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --batch_size 32 --scheduler cosine --lr 0.05 \
    --num_threads 1
