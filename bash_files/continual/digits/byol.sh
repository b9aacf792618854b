# BYOL (fine-tuning) on the digits of scikit-learn: five tasks of two classes, a minute on two cores.
python main_continual.py \
    --name byol-digits \
    --dataset digits \
    --backbone tiny --width 16 \
    --method byol \
    --output_dim 64 \
    --proj_hidden_dim 256 \
    --pred_hidden_dim 256 \
    --max_epochs 40 \
    --batch_size 64 \
    --optimizer adamw --lr 0.004 --weight_decay 1e-2 --warmup_epochs 2 \
    --min_scale 0.5 --gaussian_prob 0.0 --horizontal_flip_prob 0.0 \
    --check_val_every_n_epoch 10 \
    --num_threads 1
