"""A small service: people sign up and get a mail, pictures are uploaded and get thumbnails."""
