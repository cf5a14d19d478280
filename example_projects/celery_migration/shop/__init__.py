"""An ordinary Celery project. Nothing in it but `shop/app.py` knows what the broker is."""
