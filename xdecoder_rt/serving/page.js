"use strict";
// A picture is encoded once and kept by its id; every question asks about that.
const $ = (id) => document.getElementById(id);
const view = $("view"), camera = $("camera");
let picture = null, imageId = null, imagePlan = null, layers = [], turn = 0;

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

async function call(path, body) {
  const headers = {};
  const token = $("token").value;
  if (token) headers.Authorization = "Bearer " + token;
  if (!(body instanceof FormData) && body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body ? "POST" : "GET", headers,
    body: body && (body instanceof FormData ? body : JSON.stringify(body)),
  });
  const values = await answer.json();
  if (answer.status === 401) $("locked").hidden = false;
  if (!answer.ok) throw Object.assign(new Error(values.error.message), { status: answer.status });
  return values;
}

async function show(file) {
  try {
    const shown = await createImageBitmap(file);
    picture = { file, shown };
  } catch {
    say("This file is no picture that the browser can show.", true);
    return;
  }
  imageId = null;
  layers = [];
  $("found").replaceChildren();
  $("said").textContent = "";
  $("hint").hidden = true;
  view.width = picture.shown.width;
  view.height = picture.shown.height;
  paint();
  say("Type words and press Ask.");
  $("words").focus();
}

// COCO's compressed run lengths, down the columns.
function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width), runs = [];
  let place = 0, at = 0;
  while (at < counts.length) {
    let value = 0, shift = 0, group;
    do {
      group = counts.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (runs.length % 2) {
      for (let i = place; i < place + value; i++) mask[(i % height) * width + Math.floor(i / height)] = 1;
    }
    place += value;
    runs.push(value);
  }
  return { mask, width, height };
}

function colourOf(number) {
  const hue = (255 + 137.508 * number) % 360;
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = `hsl(${hue} 85% 55%)`;
  const hex = probe.fillStyle;
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function layerOf(found, name, number) {
  const { mask, width, height } = decode(found.mask), [red, green, blue] = colourOf(number);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const x = i % width, edge = x === 0 || x === width - 1 || !mask[i - 1] || !mask[i + 1] ||
      i < width || i >= mask.length - width || !mask[i - width] || !mask[i + width];
    pixels.data.set([red, green, blue, edge ? 255 : 110], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return { canvas, name, score: found.score, box: found.box, colour: `rgb(${red},${green},${blue})`,
    ink: 0.299 * red + 0.587 * green + 0.114 * blue > 125 ? "#000" : "#fff", isShown: true };
}

function paint() {
  const context = view.getContext("2d");
  context.drawImage(picture.shown, 0, 0);
  const size = Math.max(12, Math.round(view.width / 45));
  context.font = `600 ${size}px system-ui, sans-serif`;
  for (const layer of layers) if (layer.isShown) context.drawImage(layer.canvas, 0, 0, view.width, view.height);
  for (const layer of layers) {
    if (!layer.isShown) continue;
    const text = `${layer.name} ${Math.round(100 * layer.score)} %`;
    const wide = context.measureText(text).width + size / 2;
    const x = Math.min(layer.box[0], Math.max(0, view.width - wide)), y = Math.max(0, layer.box[1] - 1.3 * size);
    context.fillStyle = layer.colour;
    context.fillRect(x, y, wide, 1.3 * size);
    context.fillStyle = layer.ink;
    context.fillText(text, x + size / 4, y + size);
  }
}

function list() {
  $("found").replaceChildren(...layers.map((layer) => {
    const item = document.createElement("li"), label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    const patch = Object.assign(document.createElement("span"), { className: "patch" });
    patch.style.background = layer.colour;
    box.addEventListener("change", () => { layer.isShown = box.checked; paint(); });
    label.append(box, patch, `${layer.name}: ${Math.round(100 * layer.score)} %`);
    item.append(label);
    return item;
  }));
}

const parts = (text, separator) => text.split(separator).map((part) => part.trim()).filter(Boolean);

function request() {
  const asked = { plan: $("plan").value || undefined };
  const words = parts($("words").value, ","), phrases = parts($("phrases").value, "\n");
  const question = $("question").value.trim(), choices = parts($("choices").value, ",");
  if (words.length) asked.words = words;
  if (phrases.length) asked.phrases = phrases;
  if ($("caption").checked) asked.caption = true;
  if (question) asked.question = question;
  if (question && choices.length) asked.choices = choices;
  return asked;
}

async function encoded(plan) {
  if (imageId === null || imagePlan !== plan) {
    const form = new FormData();
    form.append("image", picture.file, "picture");
    form.append("request", JSON.stringify({ plan: plan || undefined }));
    imageId = (await call("v1/images", form)).image_id;
    imagePlan = plan;
  }
  return imageId;
}

async function ask(isSecond = false) {
  if (!picture) { say("Choose a picture first.", true); return; }
  const asked = request(), mine = ++turn;
  if (!(asked.words || asked.phrases || asked.caption || asked.question)) {
    say("Type words, a phrase or a question.", true);
    return;
  }
  say("Looking …");
  $("go").disabled = true;
  try {
    asked.image_id = await encoded($("plan").value);
    const start = performance.now(), values = await call("v1/run", asked);
    if (mine !== turn) return;
    const found = [
      ...(values.segment?.segments ?? []).map((segment) => [segment, segment.label]),
      ...(values.refer ?? []).filter((one) => one.found).map((one) => [one, one.phrase]),
    ];
    layers = found.map(([one, name], number) => layerOf(one, name, number));
    paint();
    list();
    $("said").textContent = [values.caption?.text, values.answer && `Answer: ${values.answer.text} ` +
      `(${Math.round(100 * values.answer.score)} %)`].filter(Boolean).join(" · ");
    say(`${layers.length} found in ${((performance.now() - start) / 1000).toFixed(2)} s.`);
  } catch (error) {
    if (error.status === 404 && !isSecond) { imageId = null; await ask(true); return; }
    say(error.message, true);
  } finally {
    $("go").disabled = false;
  }
}

async function lookWithCamera() {
  if (camera.srcObject) {
    const frame = document.createElement("canvas");
    frame.width = camera.videoWidth;
    frame.height = camera.videoHeight;
    frame.getContext("2d").drawImage(camera, 0, 0);
    for (const track of camera.srcObject.getTracks()) track.stop();
    camera.srcObject = null;
    camera.hidden = true;
    view.hidden = false;
    $("look").textContent = "Use the camera";
    frame.toBlob(show, "image/jpeg", 0.92);
    return;
  }
  try {
    camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await camera.play();
    camera.hidden = false;
    view.hidden = true;
    $("hint").hidden = true;
    $("look").textContent = "Take the picture";
  } catch {
    say("There is no camera that this page may use.", true);
  }
}

async function listPlans() {
  try {
    const { plans } = await call("v1/plans");
    $("plan").replaceChildren(...plans.map((plan) => new Option(plan.name, plan.name)));
    $("locked").hidden = true;
  } catch (error) {
    say(error.message, true);
  }
}

$("file").addEventListener("change", () => { if ($("file").files[0]) show($("file").files[0]); });
$("look").addEventListener("click", lookWithCamera);
$("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("token").addEventListener("change", listPlans);
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
});
$("drop").addEventListener("drop", (event) => { if (event.dataTransfer.files[0]) show(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) show(file);
});
listPlans();
