//! Pictures of number plates, made with a fixed seed: several layouts, noise, rotation, light. It reads none.

use std::path::Path;

use ab_glyph::{FontVec, PxScale};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageEncoder, Rgb, RgbImage, RgbaImage, imageops};
use imageproc::drawing::{draw_filled_rect_mut, draw_hollow_rect_mut, draw_text_mut, text_size};
use imageproc::geometric_transformations::{Interpolation, rotate_about_center};
use imageproc::rect::Rect;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::shell::LabError;

/// Fonts of Debian's fonts-dejavu-core.
const FONT_DIR: &str = "/usr/share/fonts/truetype/dejavu";
/// The picture's size in pixels, as a traffic camera's.
const SIZE: (u32, u32) = (1280, 960);
/// JPEG quality; with the noise it gives 100 to 300 kB.
const QUALITY: u8 = 85;
/// Letters and digits of plates. Like real series it leaves out what looks alike (I, J, O, Q, S, 0, 1, 5, 8, …).
const LETTERS: &[u8] = b"ACEFHKLMNPRTUVWXY";
const DIGITS: &[u8] = b"234679";

/// How a plate looks.
struct Layout {
    font: &'static str,
    ground: [u8; 3],
    ink: [u8; 3],
    /// A blue band at the left, as in Europe.
    band: bool,
    /// `L` a letter, `D` a digit, else itself.
    pattern: &'static str,
}

const LAYOUTS: [Layout; 4] = [
    Layout {
        font: "DejaVuSans-Bold.ttf",
        ground: [245, 245, 240],
        ink: [20, 25, 90],
        band: false,
        pattern: "LLL DDDD",
    },
    Layout {
        font: "DejaVuSansMono-Bold.ttf",
        ground: [250, 250, 250],
        ink: [15, 15, 15],
        band: true,
        pattern: "LLLDDD",
    },
    Layout { font: "DejaVuSans-Bold.ttf", ground: [250, 210, 60], ink: [10, 10, 10], band: false, pattern: "LLDD LLL" },
    Layout {
        font: "DejaVuSansMono-Bold.ttf",
        ground: [235, 240, 245],
        ink: [120, 15, 20],
        band: false,
        pattern: "DLLLDDD",
    },
];

/// A picture and what its plate says.
#[derive(Clone, Debug)]
pub struct Plate {
    /// The text, without blanks.
    pub text: String,
    /// The picture.
    pub jpeg: Vec<u8>,
}

/// The `number`-th picture; the same every time.
///
/// # Errors
/// [`LabError::File`] if the font is not installed.
pub fn render(number: u32) -> Result<Plate, LabError> {
    let mut rng = StdRng::seed_from_u64(0x0076_6973_6375_6d00 + u64::from(number));
    let layout = &LAYOUTS[number as usize % LAYOUTS.len()];
    let written: String = layout
        .pattern
        .bytes()
        .map(|c| match c {
            b'L' => char::from(LETTERS[rng.gen_range(0..LETTERS.len())]),
            b'D' => char::from(DIGITS[rng.gen_range(0..DIGITS.len())]),
            other => char::from(other),
        })
        .collect();
    let plate = draw_plate(layout, &written, &font(layout.font)?);
    let mut picture = draw_car(&mut rng);
    let turned = rotate(&plate, rng.gen_range(-0.07..0.07));
    let x = i64::from((SIZE.0 - turned.width()) / 2) + rng.gen_range(-120..=120);
    let y = i64::from(SIZE.1 * 6 / 10) + rng.gen_range(-60..=40) - i64::from(turned.height() / 2);
    blend(&mut picture, &turned, x, y);
    light_and_noise(&mut picture, &mut rng);
    Ok(Plate { text: written.chars().filter(|c| !c.is_whitespace()).collect(), jpeg: encode(&picture) })
}

fn font(name: &str) -> Result<FontVec, LabError> {
    let path = Path::new(FONT_DIR).join(name);
    let missing = |source| LabError::File {
        what: "the plates' font (Debian's package fonts-dejavu-core)",
        path: path.display().to_string(),
        source,
    };
    let bytes = std::fs::read(&path).map_err(missing)?;
    FontVec::try_from_vec(bytes).map_err(|e| missing(std::io::Error::other(e.to_string())))
}

fn draw_plate(layout: &Layout, text: &str, font: &FontVec) -> RgbaImage {
    let scale = PxScale::from(96.0);
    let (text_width, text_height) = text_size(scale, font, text);
    let band = if layout.band { 40 } else { 0 };
    let (width, height) = (text_width + 90 + band, text_height + 60);
    let opaque = |c: [u8; 3]| image::Rgba([c[0], c[1], c[2], 255]);
    let mut plate = RgbaImage::from_pixel(width, height, opaque(layout.ground));
    draw_hollow_rect_mut(&mut plate, Rect::at(6, 6).of_size(width - 12, height - 12), opaque(layout.ink));
    if layout.band {
        draw_filled_rect_mut(&mut plate, Rect::at(0, 0).of_size(band, height), opaque([10, 50, 160]));
    }
    draw_text_mut(&mut plate, opaque(layout.ink), (45 + band) as i32, 14, scale, font, text);
    plate
}

/// A dark car on a grey road, roughly.
fn draw_car(rng: &mut StdRng) -> RgbImage {
    let (width, height) = SIZE;
    let sky: u8 = rng.gen_range(90..130);
    let mut picture = RgbImage::from_fn(width, height, |_, y| {
        let shade = sky.saturating_sub((y * 40 / height) as u8);
        Rgb([shade, shade, shade.saturating_add(8)])
    });
    let body = Rgb([rng.gen_range(20..60), rng.gen_range(20..50), rng.gen_range(25..70)]);
    draw_filled_rect_mut(&mut picture, Rect::at(160, 300).of_size(960, 520), body);
    draw_filled_rect_mut(&mut picture, Rect::at(300, 140).of_size(680, 180), Rgb([30, 34, 40]));
    for x in [190, 990] {
        draw_filled_rect_mut(&mut picture, Rect::at(x, 360).of_size(100, 60), Rgb([150, 140, 110]));
    }
    picture
}

/// On a transparent ground that is large enough for the corners.
fn rotate(plate: &RgbaImage, radians: f32) -> RgbaImage {
    let margin = plate.width() / 8;
    let clear = image::Rgba([0, 0, 0, 0]);
    let mut canvas = RgbaImage::from_pixel(plate.width() + 2 * margin, plate.height() + 2 * margin, clear);
    imageops::overlay(&mut canvas, plate, i64::from(margin), i64::from(margin));
    rotate_about_center(&canvas, radians, Interpolation::Bilinear, clear)
}

fn blend(picture: &mut RgbImage, plate: &RgbaImage, x0: i64, y0: i64) {
    for (x, y, pixel) in plate.enumerate_pixels() {
        let (x, y) = (x0 + i64::from(x), y0 + i64::from(y));
        if x < 0 || y < 0 || x >= i64::from(SIZE.0) || y >= i64::from(SIZE.1) {
            continue;
        }
        let alpha = f32::from(pixel.0[3]) / 255.0;
        let below = picture.get_pixel_mut(x as u32, y as u32);
        for channel in 0..3 {
            let mixed = f32::from(pixel.0[channel]) * alpha + f32::from(below.0[channel]) * (1.0 - alpha);
            below.0[channel] = mixed as u8;
        }
    }
}

fn light_and_noise(picture: &mut RgbImage, rng: &mut StdRng) {
    let light = rng.gen_range(0.75..1.05_f32);
    for pixel in picture.pixels_mut() {
        let noise: f32 = rng.gen_range(-18.0..18.0);
        for channel in &mut pixel.0 {
            *channel = (f32::from(*channel) * light + noise).clamp(0.0, 255.0) as u8;
        }
    }
}

fn encode(picture: &RgbImage) -> Vec<u8> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .write_image(picture.as_raw(), picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
        .expect("an RGB picture of this size can be encoded to memory");
    jpeg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_the_same_picture_and_others_differ() {
        let Ok(first) = render(3) else {
            assert!(std::env::var("CI").is_err(), "fonts-dejavu-core is missing");
            eprintln!("SKIPPED: fonts-dejavu-core is missing");
            return;
        };
        assert_eq!(first.jpeg, render(3).unwrap().jpeg);
        assert_ne!(first.text, render(7).unwrap().text);
        assert!((50_000..600_000).contains(&first.jpeg.len()), "{} bytes", first.jpeg.len());
    }
}
