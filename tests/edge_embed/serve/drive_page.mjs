// Drives the search page in a real browser. Usage: node drive_page.mjs MODULES CHROMIUM URL OUT
// Prints what a person would see after each step, as one JSON object.
import {createRequire} from 'node:module';
import process from 'node:process';

const [modules, chromium, url, out] = process.argv.slice(2);
const {chromium: launcher} = createRequire(`${modules}/node_modules/`)('playwright-core');

const browser = await launcher.launch({executablePath: chromium, args: ['--no-sandbox']});
const seen = {requests: [], errors: []};
try {
  const page = await browser.newPage({viewport: {width: 900, height: 700}, colorScheme: 'light'});
  page.on('request', (request) => seen.requests.push(request.url()));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  await page.goto(url);
  const texts = (selector) => page.locator(selector).allTextContents();
  const status = () => page.locator('#status').textContent();
  const waitFor = (pattern) =>
    page.waitForFunction((source) => new RegExp(source).test(document.querySelector('#status').textContent), pattern);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);

  seen.focusAtStart = await focused();
  await page.locator('#mode').selectOption('text');
  await page.locator('#query').pressSequentially('red planet');
  await waitFor('passage');
  seen.status = await status();
  seen.titles = await texts('.title');
  seen.marks = await texts('mark');
  seen.boldElements = await page.locator('#hits b').count();
  await page.screenshot({path: `${out}/light.png`});
  await page.emulateMedia({colorScheme: 'dark'});
  await page.screenshot({path: `${out}/dark.png`});

  await page.keyboard.press('ArrowDown');
  seen.afterDown = await focused();
  await page.keyboard.press('Enter');
  seen.opened = await page.locator('#hits li p:not([hidden])').first().textContent();
  await page.keyboard.press('ArrowUp');
  seen.afterUp = await focused();
  await page.locator('#query').fill('zebra');
  await waitFor('Nothing');
  seen.nothing = await status();
  await page.keyboard.press('Escape');
  seen.afterEscape = await focused();

  await page.route('**/search', (route) => route.abort());
  await page.locator('#query').fill('red');
  await waitFor('does not answer');
  seen.gone = await status();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
