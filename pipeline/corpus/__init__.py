"""Labels from what the whole corpus knows: multiple-instance EM over stored region embeddings, with a background class.

Which regions recur in the images whose captions say 'butterfly', and not elsewhere? A softmax classifier over the
pool's concepts and one background class is fitted to all regions at once. Captions say which concepts an image should
show, objectness says where an object is likely, and the text embeddings are where the classifier starts.

Read in this order: `settings`, `regions` (what a shard offers), `classifier`, `expectation` (one shard -> statistics),
`maximisation` (statistics -> a better classifier), `fit` (the rounds), `labels` (classifier -> labels of regions).
Arrays in, arrays out: nothing here reads or writes a file.
"""
