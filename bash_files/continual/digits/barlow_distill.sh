# Barlow Twins with CaSSLe distillation on scikit-learn's digits: five tasks of two classes, for two cores.
python main_continual.py \
    --name barlow-distill-digits \
    --dataset digits \
    --backbone tiny \
    --method barlow_twins \
    --distiller decorrelative \
    --max_epochs 3 \
    --batch_size 64 \
    --gaussian_prob 0.0 0.0 \
    --solarization_prob 0.0 0.2 \
    --size 16
