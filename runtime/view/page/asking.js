// Requests to the server of the page, each with the version of the text that is shown; a server that has ended answers, too.

export const ENDED = { error: "the server has ended", fix: "start `dlc view` again; a text that is not saved can be copied from here" };

let versionShown = null;

export function showsVersion(version) {
  versionShown = version;
}

// A response; where nobody answers, one with an error, as the server gives them.
export async function asked(path, body) {
  const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const headers = { "content-type": "application/json", ...(versionShown === null ? {} : { "x-dlc-version": String(versionShown) }) };
  try {
    return await fetch(path, { credentials: "same-origin", headers, ...sent });
  } catch {
    return Response.json(ENDED, { status: 503 });
  }
}
