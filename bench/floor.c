/* The least that a health check can do: connect, log in without a password, SELECT 1, goodbye.
   floor SOCKET USER */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned char packet[4096];

/* Packets of the client/server protocol: three bytes of length, one of sequence, then the payload. */
static int receive(int fd)
{
    ssize_t got = read(fd, packet, sizeof packet);
    return got > 4 && packet[4] != 0xff;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path || strlen(argv[2]) > 80)
        return 2;
    strcpy(address.sun_path, argv[1]);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) || !receive(fd))
        return 1;

    /* LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION; 16 MiB packets; utf8; 23 bytes of nothing. */
    unsigned char login[160] = {0, 0, 0, 1, 0x01, 0x82, 0, 0, 0, 0, 0, 1, 33};
    size_t user = strlen(argv[2]), length = 32 + user + 2;
    memcpy(login + 36, argv[2], user);
    login[0] = length;
    if (write(fd, login, length + 4) < 0 || !receive(fd) || packet[4] != 0)
        return 1;

    static const unsigned char question[] = "\x09\0\0\0\x03SELECT 1", goodbye[] = "\x01\0\0\0\x01";
    if (write(fd, question, sizeof question - 1) < 0 || !receive(fd))
        return 1;
    if (write(fd, goodbye, sizeof goodbye - 1) < 0)
        return 1;
    puts("ok");
    return 0;
}
