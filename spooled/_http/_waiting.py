"""What the two kinds of session wait with. The generator of the sync client swaps one name for the other."""

from __future__ import annotations

import asyncio
import threading
import time

AsyncLock = asyncio.Lock
Lock = threading.Lock
async_sleep = asyncio.sleep
sleep = time.sleep
