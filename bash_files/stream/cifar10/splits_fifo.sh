# SimSiam on CIFAR-10 in five splits of two classes: every fourth image, four updates, a memory of the last 512.
# Scaled-down twin of imagenet-100/fifo.sh, from scratch: four minutes on two cores.
# $DATA_DIR holds CIFAR-10 as {train,val}/CLASS/IMAGE.
python main_continual.py \
    --name splits-fifo-cifar10 \
    --dataset custom --data_dir $DATA_DIR --size 32 \
    --stream class --subsample 4 --num_updates 4 \
    --method simsiam --backbone tiny --width 16 --stem_stride 2 \
    --proj_hidden_dim 256 --pred_hidden_dim 64 \
    --strategy minred --memory fifo --mem_size 512 --memory_warm_up 512 \
    --batch_size 64 --scheduler none --lr 0.05 \
    --min_scale 0.2 --saturation 0.4 --gaussian_prob 0.0 \
    --num_threads 1
