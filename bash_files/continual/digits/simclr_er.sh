# SimCLR with experience replay (200 images) on the digits of scikit-learn: five tasks, a minute on two cores.
python main_continual.py \
    --name simclr-er-digits \
    --dataset digits \
    --backbone tiny --width 16 \
    --method simclr --strategy er --mem_size 200 --replay_batch_size 32 \
    --output_dim 64 \
    --proj_hidden_dim 256 \
    --temperature 0.2 \
    --max_epochs 40 \
    --batch_size 64 \
    --optimizer adamw --lr 0.004 --weight_decay 1e-2 --warmup_epochs 2 \
    --min_scale 0.5 --gaussian_prob 0.0 --horizontal_flip_prob 0.0 \
    --check_val_every_n_epoch 10 \
    --num_threads 1
