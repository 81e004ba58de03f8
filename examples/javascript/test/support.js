export { open } from "../connect.js";
export { token as channelToken } from "../pgbridge/subjects.js";
