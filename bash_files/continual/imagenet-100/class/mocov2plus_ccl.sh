# MoCo V2+ with CCL on ImageNet-100: ten tasks of ten classes, 200 epochs each, 20 exemplars a class.
# CCL's published settings. $DATA_DIR/imagenet-100 holds {train,val}/WNID/*.JPEG.
python main_continual.py \
    --name mocov2plus-ccl-imagenet100-class \
    --dataset imagenet100 --num_tasks 10 \
    --data_dir $DATA_DIR/imagenet-100 \
    --method mocov2plus --strategy ccl \
    --backbone resnet50 \
    --gpus 0,1 --sync_batchnorm --precision 16 \
    --max_epochs 200 \
    --check_val_every_n_epoch 9999 \
    --scheduler cosine --lr 0.03 \
    --base_tau_momentum 0.999 --final_tau_momentum 0.999 \
    --temperature 0.2 \
    --min_scale 0.2 --saturation 0.4
