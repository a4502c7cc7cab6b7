//! An image for containers, made of the machine's own busybox: no registry is needed.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use crate::docker::Docker;
use crate::place::Place;

/// The image's name.
pub const NAME: &str = "dockline/busybox:demo";

/// Statically linked, so that it runs in an otherwise empty container (package busybox-static).
const BUSYBOX: &str = "/bin/busybox";

/// Imports the image unless it is there.
pub async fn import(docker: &Docker, place: &Place) -> Result<()> {
    if docker.run(place, &["image", "inspect", NAME]).await.is_ok() {
        return Ok(());
    }
    let root = tempfile::tempdir_in(&place.folder)?;
    let bin = root.path().join("bin");
    for folder in ["bin", "tmp", "data", "proc", "sys", "dev", "etc"] {
        std::fs::create_dir(root.path().join(folder))?;
    }
    std::fs::copy(BUSYBOX, bin.join("busybox"))
        .context("cannot copy busybox: is the package busybox-static installed?")?;
    std::fs::set_permissions(bin.join("busybox"), PermissionsExt::from_mode(0o755))?;
    let applets = place.program(BUSYBOX).arg("--list").run().await?.text();
    for applet in applets.lines().filter(|&applet| applet != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet))?;
    }
    let archive = place.folder.join("busybox.tar");
    let pack = place.program("tar").arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg(".");
    pack.run().await?;
    let archive = archive.to_str().context("a path that is not text")?;
    docker.run(place, &["import", "--change", "ENV PATH=/bin", archive, NAME]).await?;
    std::fs::remove_file(archive)?;
    Ok(())
}
