# SimSiam on CIFAR-100, shuffled: the reference of the online scripts beside this one, at equal compute.
# 42 epochs in batches of 138 see as many images as three updates on 10 + 128; a rate of 0.01 in every step.
# Defaults of the continual-SSL library. $DATA_DIR takes the data.
python main_continual.py \
    --name online-iid-cifar100 \
    --dataset cifar100 --num_tasks 20 \
    --data_dir $DATA_DIR --download \
    --stream iid --stream_epochs 42 --eval_at 25 50 75 100 \
    --method simsiam \
    --zero_init_residual \
    --gpus 0 \
    --batch_size 138 --scheduler none --lr 0.01855 \
    --output_dim 2048 --proj_hidden_dim 512 \
    --min_scale 0.2 --gaussian_prob 0.0
