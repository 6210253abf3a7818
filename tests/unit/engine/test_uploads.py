"""When copies are told of. Their order on CUDA is tested by `test_cuda.py`."""

import torch

from engine.plan import Upload
from engine.uploads import Uploader


def test_each_copy_is_told_of_once_with_its_time() -> None:
    uploader, done = Uploader(torch.device("cpu")), list[int]()
    assert uploader.finished() == []
    uploads = [Upload(0, "a", 7), Upload(1, "b", 7), Upload(2, "c", 9)]
    for upload in uploads:
        uploader.run(upload, lambda: done.append(1))
    found = uploader.finished()
    assert len(done) == 3 and [upload for upload, _ in found] == uploads
    assert all(seconds > 0 for _, seconds in found) and uploader.finished() == []
