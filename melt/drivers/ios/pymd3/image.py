"""The developer disk image, which brings the services that start and watch programs: mounted where it is not.

Below iOS 17 one is for every iPhone of a version; from there on one is for all, and Apple signs it for each iPhone.
"""

import asyncio
import plistlib
from pathlib import Path
from typing import Any

from developer_disk_image.exceptions import DeveloperDiskImageException
from developer_disk_image.repo import DeveloperDiskImageRepository
from pymobiledevice3 import exceptions as e
from pymobiledevice3.services.mobile_image_mounter import (
    MobileImageMounterService,
    PersonalizedImageMounter,
    auto_mount_developer,
    image_type_for_device,
)

from melt.drivers.ios.pymd3.errors import BY_HAND_HINT, IMAGE_HINT
from melt.errors import DeviceError
from melt.util.files import write_whole

_CRYPTEX_FROM = 27  # the major of iOS whose image is a cryptex, which is put there in another way
_NOT_TO_BE_HAD = (
    e.DeveloperDiskImageNotFoundError,
    e.NoSuchBuildIdentityError,
    e.TSSError,
    DeveloperDiskImageException,
    OSError,
)


async def mount(lockdown: Any, images: Path, name: str) -> None:
    """Mounts it where it is not.

    Args:
        lockdown: the library's connection to the iPhone.
        images: a folder with ``Xcode.app``, laid out like Xcode's, and ``Personalized``; what is missing is fetched.
        name: what messages call the iPhone.

    Raises:
        DeviceError: it can be neither found nor fetched; says what to do.
    """
    image_type = image_type_for_device(lockdown)
    async with MobileImageMounterService(lockdown) as mounter:
        if await mounter.is_image_mounted(image_type):
            return
    if int(lockdown.product_version.partition(".")[0]) >= _CRYPTEX_FROM:
        raise DeviceError(f"{name}: the developer disk image is not mounted, and melt cannot on this iOS", BY_HAND_HINT)
    try:
        if image_type == PersonalizedImageMounter.IMAGE_TYPE:
            files = await asyncio.to_thread(_personalized, images / "Personalized")
            async with PersonalizedImageMounter(lockdown) as mounter:
                await mounter.mount(*files)
        else:
            await auto_mount_developer(lockdown, xcode=str(images / "Xcode.app"))
    except e.AlreadyMountedError:
        return
    except (plistlib.InvalidFileException, KeyError) as error:
        raise DeviceError(
            f"{name}: {images / 'Personalized'} holds no developer disk image",
            "Remove it, and it is fetched anew.",
        ) from error
    except _NOT_TO_BE_HAD as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise  # the iPhone's: those of the network are requests' own
        raise DeviceError(
            f"{name}: the developer disk image is not mounted, and cannot be fetched: {error!s:.200}", IMAGE_HINT
        ) from error


def _personalized(folder: Path) -> tuple[Path, Path, Path]:
    """Image, build manifest and trust cache."""
    files = (folder / "Image.dmg", folder / "BuildManifest.plist", folder / "Image.trustcache")
    if not all(file.is_file() for file in files):
        image = DeveloperDiskImageRepository.create().get_personalized_disk_image()
        contents = (image.image, image.build_manifest, image.trustcache)
        if None in contents:
            raise DeveloperDiskImageException("it is not published any more")
        for file, content in zip(files, contents, strict=True):
            write_whole(file, content)
    return files
