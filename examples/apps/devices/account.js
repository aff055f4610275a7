// The application holds the user's token; without `getToken` the session cookie would be sent.
const devices = document.querySelector("sessiond-devices");
devices.getToken = async () => sessionStorage.getItem("token");
devices.texts = { title: "Where you are signed in" };
devices.addEventListener("sessiond-signed-out", () => location.assign("/signed-out"));
