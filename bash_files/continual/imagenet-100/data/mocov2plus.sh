# MoCo V2+, fine-tuning, on ImageNet-100: five random parts, 400 epochs each.
# CaSSLe's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name mocov2plus-imagenet100-data \
    --dataset imagenet100 \
    --data_dir $DATA_DIR/imagenet-100 \
    --split_strategy data \
    --method mocov2plus \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 400 \
    --check_val_every_n_epoch 9999 \
    --scheduler cosine --lr 0.4 \
    --temperature 0.2 \
    --final_tau_momentum 0.999 \
    --saturation 0.4
