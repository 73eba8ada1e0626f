//! From a JPEG to a plate's text: find the bright plate, straighten and cut it out, let Debian's tesseract read it. It knows no network.

use std::io::Write;
use std::process::{Command, Stdio};

use image::{GrayImage, Luma, imageops};
use imageproc::contrast::{ThresholdType, otsu_level, threshold};
use imageproc::geometric_transformations::{Interpolation, rotate_about_center};
use imageproc::region_labelling::{Connectivity, connected_components};

use super::shell::LabError;

/// What a plate may say.
const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Height of the text line that tesseract gets, in pixels: it reads best at about 40 to 60 px capitals.
const LINE_HEIGHT: u32 = 110;
/// The largest picture that is looked at, in pixels; a larger one is refused.
const PIXELS_MAX: u64 = 64 << 20;

/// Reads the plate.
///
/// # Errors
/// [`LabError::Unready`] if it is no picture, [`LabError::Missing`] without tesseract, [`LabError::Failed`] if that fails.
pub fn read_plate(jpeg: &[u8]) -> Result<String, LabError> {
    let reader = image::ImageReader::new(std::io::Cursor::new(jpeg)).with_guessed_format();
    let picture = reader
        .map_err(|e| LabError::Unready(format!("the picture cannot be read: {e}")))?
        .decode()
        .map_err(|e| LabError::Unready(format!("the picture is neither JPEG nor PNG: {e}")))?
        .to_luma8();
    if u64::from(picture.width()) * u64::from(picture.height()) > PIXELS_MAX {
        return Err(LabError::Unready(format!("the picture has more than {PIXELS_MAX} pixels; scale it down")));
    }
    let line = plate_line(&picture).unwrap_or(picture);
    tesseract(&line)
}

/// The plate, straight, dark on white, with a margin; `None` if there is nothing that looks like one.
fn plate_line(picture: &GrayImage) -> Option<GrayImage> {
    let smooth = imageops::blur(picture, 1.5);
    let region = find_plate(&threshold(&smooth, plate_level(&smooth), ThresholdType::Binary))?;
    let cut = imageops::crop_imm(&smooth, region.x, region.y, region.width, region.height).to_image();
    let straight = rotate_about_center(&cut, -region.angle, Interpolation::Bilinear, Luma([255]));
    // What the turned box has more than the plate: the corners, and the plate's own frame.
    let slant = (region.angle.sin().abs() * region.width as f32) as u32;
    let (dx, dy) = (region.height / 9, slant / 2 + region.height.saturating_sub(slant) / 8);
    if straight.width() <= 2 * dx + 8 || straight.height() <= 2 * dy + 8 {
        return None;
    }
    let inner = imageops::crop_imm(&straight, dx, dy, straight.width() - 2 * dx, straight.height() - 2 * dy).to_image();
    let width = (inner.width() * LINE_HEIGHT / inner.height()).max(1);
    let line = imageops::resize(&inner, width, LINE_HEIGHT, imageops::FilterType::CatmullRom);
    let ink = threshold(&line, otsu_level(&line), ThresholdType::Binary);
    let mut page = GrayImage::from_pixel(width + 60, LINE_HEIGHT + 60, Luma([255]));
    imageops::overlay(&mut page, &ink, 30, 30);
    Some(page)
}

/// Between the plate and what is around it: Otsu's level of what is already brighter than the average.
fn plate_level(picture: &GrayImage) -> u8 {
    let first = otsu_level(picture);
    let mut histogram = [0_u64; 256];
    picture.pixels().filter(|p| p.0[0] > first).for_each(|p| histogram[usize::from(p.0[0])] += 1);
    let total: u64 = histogram.iter().sum();
    let sum: f64 = histogram.iter().enumerate().map(|(v, n)| v as f64 * *n as f64).sum();
    let (mut below, mut sum_below, mut best, mut level) = (0_u64, 0.0, 0.0, first);
    for (value, count) in histogram.iter().enumerate() {
        below += count;
        sum_below += value as f64 * *count as f64;
        if below == 0 || below == total {
            continue;
        }
        let above = (total - below) as f64;
        let distance = sum_below / below as f64 - (sum - sum_below) / above;
        let spread = below as f64 * above * distance * distance;
        if spread > best {
            best = spread;
            level = value as u8;
        }
    }
    level
}

/// A bright region that could be a plate.
struct Region {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    /// Its slope in radians, clockwise as pixels go.
    angle: f32,
}

/// Sums over a region's pixels.
#[derive(Clone, Default)]
struct Moments {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
}

/// The largest region of a plate's proportions.
fn find_plate(mask: &GrayImage) -> Option<Region> {
    let labels = connected_components(mask, Connectivity::Four, Luma([0]));
    let mut regions: std::collections::HashMap<u32, Moments> = std::collections::HashMap::new();
    for (x, y, label) in labels.enumerate_pixels().filter(|(_, _, l)| l.0[0] != 0) {
        let m = regions.entry(label.0[0]).or_insert_with(|| Moments {
            left: x,
            right: x,
            top: y,
            bottom: y,
            ..Moments::default()
        });
        let (fx, fy) = (f64::from(x), f64::from(y));
        m.count += 1.0;
        m.x += fx;
        m.y += fy;
        m.xx += fx * fx;
        m.yy += fy * fy;
        m.xy += fx * fy;
        (m.left, m.right) = (m.left.min(x), m.right.max(x));
        (m.top, m.bottom) = (m.top.min(y), m.bottom.max(y));
    }
    let least = f64::from(mask.width()) * f64::from(mask.height()) / 200.0;
    regions
        .into_values()
        .filter(|m| m.count > least)
        .filter(|m| {
            let (width, height) = (m.right - m.left + 1, m.bottom - m.top + 1);
            let proportion = f64::from(width) / f64::from(height);
            (1.8..9.0).contains(&proportion) && m.count / f64::from(width) / f64::from(height) > 0.3
        })
        .max_by(|a, b| a.count.total_cmp(&b.count))
        .map(|m| Region {
            x: m.left,
            y: m.top,
            width: m.right - m.left + 1,
            height: m.bottom - m.top + 1,
            angle: slope(&m),
        })
}

/// The main axis' direction from second moments.
fn slope(m: &Moments) -> f32 {
    let (mean_x, mean_y) = (m.x / m.count, m.y / m.count);
    let xx = m.xx / m.count - mean_x * mean_x;
    let yy = m.yy / m.count - mean_y * mean_y;
    let xy = m.xy / m.count - mean_x * mean_y;
    (0.5 * (2.0 * xy).atan2(xx - yy)) as f32
}

fn tesseract(page: &GrayImage) -> Result<String, LabError> {
    let shown = "tesseract stdin stdout --psm 7".to_owned();
    let missing = |source| LabError::Missing { command: shown.clone(), source, package: "tesseract-ocr" };
    let mut png = Vec::new();
    page.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .map_err(|e| LabError::Unready(format!("the cut-out plate cannot be encoded: {e}")))?;
    let mut child = Command::new("tesseract")
        .args(["stdin", "stdout", "--psm", "7", "--dpi", "150", "-c"])
        .arg(format!("tessedit_char_whitelist={CHARACTERS}"))
        // One thread: the pictures are small, and the other cores have frames to forward.
        .env("OMP_THREAD_LIMIT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    stdin.write_all(&png).map_err(missing)?;
    drop(stdin);
    let output = child.wait_with_output().map_err(missing)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Failed {
            command: shown,
            message,
            hint: "\nis Debian's package tesseract-ocr-eng installed?",
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).chars().filter(char::is_ascii_alphanumeric).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plate;

    #[test]
    fn every_plate_of_the_demo_is_read() {
        if !crate::lab::shell::try_run(None, "tesseract --version") {
            assert!(std::env::var("CI").is_err(), "tesseract-ocr is missing");
            eprintln!("SKIPPED: tesseract-ocr is missing");
            return;
        }
        let wrong: Vec<String> = (0..16)
            .map(|number| plate::render(number).unwrap())
            .map(|plate| (plate.text, read_plate(&plate.jpeg).unwrap()))
            .filter(|(written, read)| written != read)
            .map(|(written, read)| format!("{written} was read as {read:?}"))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_is_no_picture_is_an_error_and_no_panic() {
        assert!(read_plate(b"").is_err() && read_plate(&[0xff, 0xd8, 0xff, 0x00]).is_err());
    }
}
