# SimSiam, fine-tuning, on CIFAR-100: five tasks of 20 classes, 500 epochs each.
# Settings of the SimSiam paper, appendix D. The data is downloaded to $DATA_DIR if it is not there.
python main_continual.py \
    --name simsiam-cifar100 \
    --dataset cifar100 \
    --data_dir $DATA_DIR --download \
    --method simsiam \
    --gpus 0 --precision 16 \
    --max_epochs 500 --batch_size 256 \
    --scheduler cosine --lr 0.03 --weight_decay 5e-4 \
    --output_dim 2048 \
    --min_scale 0.2 --saturation 0.4 --gaussian_prob 0.0
