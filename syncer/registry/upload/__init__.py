"""Making a blob present: mount it, or open an upload and send it (distribution-spec "Pushing blobs").

One POST asks for a mount and opens the upload if there is nothing to mount; one PUT carries the
bytes and commits them. Registries that want it otherwise get it otherwise (:mod:`.forms`), and what
goes wrong is settled by going back to a known state (:mod:`.ladder`).
"""

from syncer.registry.upload.examining import examine
from syncer.registry.upload.mounting import begin
from syncer.registry.upload.session import UploadSession

__all__ = ["UploadSession", "begin", "examine"]
