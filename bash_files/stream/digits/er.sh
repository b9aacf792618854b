# SimSiam with ER on the digits of scikit-learn, online: two classes at a time, three updates for every ten images.
# Scaled-down twin of cifar100/er.sh: 32 replayed images beside every ten, a memory of 200; half a minute on two cores.
python main_continual.py \
    --name online-er-digits \
    --dataset digits \
    --stream class --num_updates 3 \
    --method simsiam --strategy er --mem_size 200 --replay_batch_size 32 \
    --backbone tiny --width 16 \
    --output_dim 64 --proj_hidden_dim 128 --pred_hidden_dim 32 \
    --batch_size 10 --scheduler none --lr 0.256 \
    --min_scale 0.5 --gaussian_prob 0.0 --horizontal_flip_prob 0.0 \
    --num_threads 1
