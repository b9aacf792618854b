# SimSiam on CIFAR-10, shuffled, in a single pass: four updates, a memory of the last 4,096 images.
# Scaled-down twin of flickr/fifo.sh, with four updates of an image instead of ten: five minutes on two cores.
# $DATA_DIR holds CIFAR-10 as {train,val}/CLASS/IMAGE.
python main_continual.py \
    --name fifo-cifar10 \
    --dataset custom --data_dir $DATA_DIR --size 32 \
    --eval_at 25 50 75 100 --stream iid --num_updates 4 \
    --method simsiam --backbone tiny --width 16 --stem_stride 2 \
    --proj_hidden_dim 256 --pred_hidden_dim 64 \
    --strategy minred --memory fifo --mem_size 4096 --memory_warm_up 4096 \
    --scheduler cosine --lr 0.05 \
    --min_scale 0.2 --saturation 0.4 --gaussian_prob 0.0 \
    --num_threads 1
