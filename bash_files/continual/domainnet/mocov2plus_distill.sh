# MoCo V2+, with CaSSLe distillation, on DomainNet: six tasks, a domain each, 200 epochs each.
# CaSSLe's published settings. $DATA_DIR/domainnet holds the images and DOMAIN_{train,test}.txt.
python main_continual.py \
    --name mocov2plus-distill-domainnet \
    --dataset domainnet \
    --data_dir $DATA_DIR/domainnet \
    --split_strategy domain --num_tasks 6 \
    --method mocov2plus \
    --distiller contrastive \
    --gpus 0,1,2,3 --sync_batchnorm --precision 16 \
    --max_epochs 200 --batch_size 64 \
    --check_val_every_n_epoch 9999 --disable_knn_eval \
    --scheduler cosine --lr 0.4 \
    --temperature 0.2 \
    --final_tau_momentum 0.999 --momentum_classifier \
    --saturation 0.4
