# SimSiam on Kinetics-400, 64 frames a video at 8 frames a second, all frames shuffled: five epochs.
# Published settings of Continuous SSL, section 5, row "Decorrelated source, 5 epochs", with ResNet-18.
# $DATA_DIR holds the videos of the training set, at any depth.
python main_continual.py \
    --name decorrelated-kinetics \
    --dataset video --data_dir $DATA_DIR \
    --storage_size 256 --num_workers 16 \
    --stream iid --stream_epochs 5 \
    --method simsiam --zero_init_residual \
    --output_dim 512 --proj_hidden_dim 512 --pred_hidden_dim 128 \
    --gpus 0 \
    --batch_size 256 --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4
